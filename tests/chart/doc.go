// Command chart makes the Helm chart in manifests/chart of what kustomize makes of manifests/default, so that there is one source for both. It belongs to a
// module of its own, as Helm and kustomize bring along more than the operator needs.
//
// All objects are rendered as `kubectl apply -k` would have them (render.go). What a user of the chart may change gets an expression of Helm's template
// language in its place: edits.go is the list of these, and the place to begin reading. The result is manifests/chart/templates/FOLDER/FILE for each
// manifests/FOLDER/FILE. What lies directly in manifests/chart/templates is written by hand, and so are values.yaml and values.schema.json; the table in
// the README of the chart is made of the comments in values.yaml.
package main
