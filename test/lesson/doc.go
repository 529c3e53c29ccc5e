// Package lesson holds the lessons of five post-mortems, each as one test that is named as
// in the table of the project's issues: go test ./test/lesson -run 'TestLesson/S1.5'. The
// gateway is a black box here, each of its servers behind a fault proxy. The lessons that
// are about one package alone are in that package.
package lesson
