package image

// How files that are not memory are cut: where the content says so, so that what moved within a file is cut alike.
const (
	minPiece = 16 << 10     // bytes
	maxPiece = frameContent // bytes
	cutBits  = 16           // one place of 2^16 is a cut
	window   = 64           // bytes that decide; a bit of the sum goes with each
)

// gear has a number for each byte, drawn by splitmix64 from the seed 0.
var gear = func() (table [256]uint64) {
	state := uint64(0)
	for i := range table {
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		table[i] = z ^ z>>31
	}
	return table
}()

// cut returns the length of the first piece of data.
func cut(data []byte) int {
	end := min(len(data), maxPiece)
	if end <= minPiece {
		return end
	}
	sum := uint64(0)
	for _, b := range data[minPiece-window : minPiece] {
		sum = sum<<1 + gear[b]
	}
	for i := minPiece; i < end; i++ {
		sum = sum<<1 + gear[data[i]]
		if sum>>(64-cutBits) == 0 {
			return i + 1
		}
	}
	return end
}
