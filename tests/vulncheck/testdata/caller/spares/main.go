// Command spares imports it and does not call it.
package main

import "strings"

func main() { println(strings.ToLower("A")) }
