// Package guide tests the guide: what docs/guide and the README show is what
// the repository has, compiles, and answers.
//
//   - A fence with a path behind its language is an excerpt of that file, letter
//     by letter but for the indentation. The files are compiled and tested.
//   - What a "console" fence shows is typed into a shell, on a game that runs;
//     what it shows as answers must be answered. "…" stands for anything.
//   - The functions in transactions_test.go are run on a platform of their own.
package guide
