package operator

import "sync"

// Keeper remembers what was last said well, so that a value that cannot be understood changes nothing. Its zero value is ready.
type Keeper struct {
	mu   sync.Mutex
	last *Config
}

// Take returns what holds, given the data of the ConfigMap; nil where there is none. The error says what of it cannot be understood.
func (k *Keeper) Take(data map[string]string) (Config, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, err := Parse(data, k.last)
	if err == nil || k.last != nil {
		k.last = &c
	}
	return c, err
}

// Last returns what held the last time, for when the ConfigMap cannot be read; false when it never was.
func (k *Keeper) Last() (c Config, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last == nil {
		return Config{}, false
	}
	return *k.last, true
}
