# A bash that is process 1: variables, functions, arrays, traps, an open descriptor, a background job, a here-document that is being read.
set -u
mkdir -p /work && cd /work
mkfifo questions answers
declare -A table
for i in $(seq 1000); do table[key$i]=$((i * i)); done
sum() { local total=0 key; for key in "${!table[@]}"; do total=$((total + table[$key])); done; echo "$total"; }
printf '%s\n' one two three four five six seven eight nine ten > lines
exec 7< lines 8> log 9<> questions
read -r first <&7                       # the offset in descriptor 7 is now behind the first line
rm lines
trap 'echo "told by a signal" >&8; told=$((told + 1))' USR1
trap 'exit 7' TERM
told=0 self=$$
( n=0; while :; do n=$((n + 1)); echo "$n" > ticks.new; mv ticks.new ticks; sleep 0.1; done ) &
ticker=$!
coproc upper { while read -r line; do echo "${line^^}"; done; }
python3 /programs/answer.py questions answers &
count=0 ticks=0 words=(second third fourth)
expected=$(sum)

broken=
is() { [ "$2" = "$3" ] || broken+=" $1 is $2; it was $3."; }
check() {
  broken=
  is "sum of the table" "$(sum)" "$expected"
  is "descriptor 7's first line" "$first" one
  is "process number" "$$" "$self"
  is "an array" "${words[*]}" "second third fourth"
  is "trap" "$(trap -p TERM)" "trap -- 'exit 7' SIGTERM"
  is "background job" "$(jobs -p | grep -cx "$ticker")" 1
  kill -USR1 $$                          # runs its trap before the next command
  is "signals" "$told" "$((count + 1))"
  is "lines in descriptor 8" "$(wc -l < log)" "$((count + 1))"
  echo "word $count" >&"${upper[1]}"; read -r -t 5 answer <&"${upper[0]}"
  is "coprocess" "$answer" "WORD $count"
  is "working directory" "$PWD" /work
  local now; now=$(cat ticks)
  [ "$now" -ge "$ticks" ] || broken+=" the ticker fell from $ticks to $now."
  ticks=$now count=$((count + 1))
  for _ in $(seq 50); do [ "$(cat ticks)" -gt "$now" ] && break; sleep 0.1; done
  [ "$(cat ticks)" -gt "$now" ] || broken+=" the ticker stands at $now."
  if [ -z "$broken" ]; then echo "ok $count checks, $(cat ticks) ticks"; else echo "broken:$broken"; fi
}

# The loop is in the middle of a here-document all the time: after each check it goes on with its next line.
while :; do
  while read -r line; do
    read -r question <&9
    case $line in row-[0-9]*) check > answer.txt; cat answer.txt > answers ;; *) echo "broken: here-document gave '$line'" > answers ;; esac
  done << END
$(for i in $(seq 20); do echo "row-$i"; done)
END
done
