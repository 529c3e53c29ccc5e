// Command gendocs writes docs/admin.md, the page of the verbs: see make docs.
package main

import (
	"fmt"
	"os"

	"keyferry/internal/verb"
)

func main() {
	if _, err := os.Stdout.WriteString(verb.Markdown()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
