// Command keyferry is a gateway that moves keys between Redis servers one at a time while
// clients go on.
package main

import "os"

func main() {
	if err := root().Execute(); err != nil {
		os.Exit(exitCode(err))
	}
}
