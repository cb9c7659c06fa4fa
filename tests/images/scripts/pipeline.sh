# A pipeline of three processes with data under way in both pipes; the last one knows when a line is missing or comes twice.
mkdir -p /work && cd /work
mkfifo questions answers
python3 /programs/answer.py questions answers &
awk 'BEGIN { for (n = 1;; n++) { print n; if (n % 1000 == 0) system("sleep 0.05") } }' |
  sed -u 's/.*/<&>/' |
  python3 /programs/pipeline_end.py questions answers
