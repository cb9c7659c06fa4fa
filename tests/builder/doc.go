// Package builder makes objects for tests, in as few words as a test needs: builder.MakePod("web-0").Label("a", "b").Obj().
package builder
