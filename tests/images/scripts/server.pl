# A Perl program that forks: a parent that serves, children that compute and talk to it by pipes and sockets, an alarm, a DATA handle.
use strict;
use warnings;
use IO::Socket::INET;
use IO::Handle;
use Digest::SHA 'sha256_hex';
use Time::HiRes qw(ualarm sleep);

sub expect { my ($what, $got, $want) = @_; die "$what is '$got'; it was '$want'\n" unless $got eq $want }

my %table = map { ("key$_" => $_ * $_) } 1 .. 100000;
my $block = join '', map { pack 'N', $_ * 2654435761 % 4294967296 } 1 .. 1 << 20;
my ($digest, $ticks, $checks, $seen) = (sha256_hex($block), 0, 0, 0);
my @children;
for my $number (1 .. 4) {
    pipe(my $in, my $to) and pipe(my $from, my $out) or die $!;
    my $pid = fork // die $!;
    if (!$pid) {
        close $to; close $from; $out->autoflush;
        my $total = 0;
        while (my $line = <$in>) { $total += $line; print $out "$number $total\n" }
        exit;
    }
    close $in; close $out; $to->autoflush;
    push @children, [$number, $pid, $to, $from];
}
my $server = IO::Socket::INET->new(Listen => 16, LocalPort => 8080, ReuseAddr => 1) or die $!;
$SIG{ALRM} = sub { $ticks++ };
ualarm 20000, 20000;
my $lines = \*DATA;

sub check {
    expect('digest', sha256_hex($block), $digest);
    my $total = 0; $total += $_ for values %table;
    expect('sum of the table', $total, 333338333350000);
    for (@children) {
        my ($number, $pid, $to, $from) = @$_;
        print $to "$checks\n";
        expect('answer of a child', scalar <$from>, "$number " . $checks * ($checks + 1) / 2 . "\n");
        expect('child is there', kill(0, $pid), 1);
    }
    expect('line of the script itself', scalar <$lines>, "line $checks\n");
    my $before = $ticks;
    select undef, undef, undef, 0.1 for 1 .. 10;
    die "the alarm went from $seen to $before to $ticks\n" unless $before >= $seen && $ticks > $before;
    ($seen, $checks) = ($ticks, $checks + 1);
    return "$checks checks, $ticks ticks";
}

while (1) {
    my $client = $server->accept or next;      # an alarm interrupts it
    while (defined(my $line = <$client>)) { last if $line =~ /^\r?\n/ }
    my $text = eval { "ok\n" . check() . "\n" };
    my $status = defined $text ? '200 OK' : '500 Broken';
    $text //= $@;
    print $client "HTTP/1.1 $status\r\nConnection: close\r\nContent-Length: " . length($text) . "\r\n\r\n$text";
    close $client;
}
__DATA__
line 0
line 1
line 2
line 3
line 4
line 5
line 6
line 7
line 8
line 9
line 10
line 11
line 12
line 13
line 14
line 15
line 16
line 17
line 18
line 19
line 20
line 21
line 22
line 23
line 24
line 25
line 26
line 27
line 28
line 29
line 30
line 31
line 32
line 33
line 34
line 35
line 36
line 37
line 38
line 39
line 40
line 41
line 42
line 43
line 44
line 45
line 46
line 47
line 48
line 49
line 50
line 51
line 52
line 53
line 54
line 55
line 56
line 57
line 58
line 59
line 60
line 61
line 62
line 63
line 64
line 65
line 66
line 67
line 68
line 69
line 70
line 71
line 72
line 73
line 74
line 75
line 76
line 77
line 78
line 79
line 80
line 81
line 82
line 83
line 84
line 85
line 86
line 87
line 88
line 89
line 90
line 91
line 92
line 93
line 94
line 95
line 96
line 97
line 98
line 99
