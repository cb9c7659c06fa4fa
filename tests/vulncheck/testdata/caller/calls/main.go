// Command calls calls what the test's database calls vulnerable.
package main

import "strings"

func main() { println(strings.ToTitle("a")) }
