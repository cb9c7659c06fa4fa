// Command images builds the images of the operator, checkpoint-manager and checkpoint-agent, without a container engine. For each it writes an
// archive with one image per architecture, and for each of these a list of what is in it, in SPDX (a software bill of materials). The same
// commit, compilers and packages of Debian give the same bytes, wherever and whenever they are built.
//
// `make images` calls it for this machine, as tests and demo want it, `make images-all` for everyone. content.go says what is in an image: start
// there. It is called in a checkout, with bin/localcluster built, which fetches what comes from Debian.
package main
