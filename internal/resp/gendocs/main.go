// Gendocs writes docs/commands.md from the command table, from the data plane's reasons for
// refusals and from the two tables next to it:
//
//	go run ./internal/resp/gendocs > docs/commands.md
package main

import (
	"fmt"
	"os"
)

func main() {
	text, err := document(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, err, "(run it in the root of the repository)")
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString(text)
}
