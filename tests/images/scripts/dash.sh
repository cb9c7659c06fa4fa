# A dash that is process 1 and reads from a fifo, as an entrypoint that waits for work does.
set -u
mkdir -p /work && cd /work
mkfifo questions answers hold
python3 /programs/answer.py questions answers &
count=0 text=start self=$$
exec 3> log
sleep 1000000 > hold &                  # blocked in the open of a fifo, without a reader
{ while :; do sleep 0.1; echo tick; done; } | { n=0; while read -r _; do n=$((n + 1)); echo "$n" > ticks.new; mv ticks.new ticks; done; } &
while read -r question; do
  count=$((count + 1)) text="$text $question"
  echo "$count" >&3
  before=$(cat ticks); sleep 0.5; after=$(cat ticks)
  words=$(echo "$text" | wc -w)
  if [ "$words" = $((count + 1)) ] && [ "$(wc -l < log)" = "$count" ] && [ "$after" -gt "$before" ] && [ $$ = $self ]; then
    echo "ok $count questions, $after ticks"
  else
    echo "broken: $count questions, $words words, $(wc -l < log) lines in the log, from $before to $after ticks"
  fi
done < questions > answers
