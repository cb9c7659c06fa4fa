// Package controllers lists the manager's controllers; each is a package below it. Start reading at setup.go.
package controllers
