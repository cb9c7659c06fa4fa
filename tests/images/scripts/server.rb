# A Ruby program: threads, fibers, an enumerator in the middle, a Ractor, sockets, a child, a queue.
require 'socket'
require 'digest'

def expect(what, got, want)
  raise "#{what} is #{got.inspect}; it was #{want.inspect}" unless got == want
end

class State
  def initialize
    @blocks = Array.new(32) { Random.bytes(1 << 20) }
    @digests = @blocks.map { |b| Digest::SHA256.hexdigest(b) }
    @table = (0...100_000).to_h { |i| ["key#{i}", i * i] }
    server = TCPServer.new('127.0.0.1', 0)
    Thread.new { loop { Thread.new(server.accept) { |s| total = 0; while (line = s.gets) do total += line.to_i; s.puts total end } } }
    @clients = Array.new(20) { TCPSocket.new('127.0.0.1', server.local_address.ip_port) }
    @queue, @answers = Queue.new, Queue.new
    10.times { Thread.new { loop { @answers << @queue.pop**2 } } }
    @fiber = Fiber.new { n = 0; loop { Fiber.yield n; n += 1 } }
    @numbers = Enumerator.new { |y| a, b = 0, 1; loop { y << a; a, b = b, a + b } }
    @random = Random.new(4)
    @same = Random.new(4)
    @child = IO.popen('cat', 'r+')
    @ticks, @checks = 0, 0
    Thread.new { loop { sleep 0.02; @ticks += 1 } }
    @mutex, @condition, @woken = Mutex.new, ConditionVariable.new, 0
    5.times { Thread.new { @mutex.synchronize { loop { @condition.wait(@mutex); @woken += 1 } } } }
    sleep 0.1
  end

  def check
    expect 'digests', @blocks.map { |b| Digest::SHA256.hexdigest(b) }, @digests
    expect 'sum of the table', @table.values.sum, 333328333350000
    @clients.each { |c| c.puts @checks }
    expect 'sums of the connections', @clients.map { |c| c.gets.to_i }.uniq, [@checks * (@checks + 1) / 2]
    100.times { |i| @queue << i }
    expect 'answers of the threads', Array.new(100) { @answers.pop }.sum, 328350
    expect 'fiber', @fiber.resume, @checks
    @fibonacci = [@numbers.next, @numbers.next]
    expect 'enumerator', @fibonacci, @numbers.take(2 * @checks + 2).last(2)
    expect 'random number', @random.rand, @same.rand
    @child.puts "line #{@checks}"
    expect 'answer of the child', @child.gets, "line #{@checks}\n"
    @mutex.synchronize { @condition.broadcast }
    before = @ticks
    sleep 0.3
    expect 'woken threads', @woken, 5 * (@checks + 1)
    raise "the ticker stands at #{before}" unless @ticks > before
    GC.start
    @checks += 1
    "#{@checks} checks, #{@ticks} ticks"
  end
end

state = State.new
server = TCPServer.new(8080)
loop do
  socket = server.accept
  nil until socket.gets.to_s.strip.empty?
  begin
    status, text = '200 OK', "ok\n#{state.check}\n"
  rescue StandardError => e
    status, text = '500 Broken', e.full_message(highlight: false)
  end
  socket.write "HTTP/1.1 #{status}\r\nConnection: close\r\nContent-Length: #{text.bytesize}\r\n\r\n#{text}"
  socket.close
end
