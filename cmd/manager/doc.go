// Command manager runs the operator's webhook and controllers. Every replica answers the API server's questions about pods that are made;
// the controllers run in the one that leads. With the word uninstall it takes the operator out of the cluster instead: see controllers/removal. With
// the word inspect it answers kubectl checkpoint: see controllers/inspection.
package main
