package stats

import "strings"

// Secret reports which arguments of a command are never shown: from … to-1.
func Secret(args []string) (from, to int) {
	if len(args) == 0 {
		return 0, 0
	}
	n := len(args)
	switch strings.ToLower(args[0]) {
	case "auth":
		return 1, n
	case "hello":
		for i := 2; i < n; i++ {
			if strings.EqualFold(args[i], "auth") {
				return i + 1, min(i+3, n)
			}
		}
	case "config":
		if n > 1 && strings.EqualFold(args[1], "set") {
			return secretSetting(args), n
		}
	case "acl":
		if n > 1 && strings.EqualFold(args[1], "setuser") {
			return 2, n
		}
	case "migrate":
		for i := 6; i < n; i++ {
			if strings.HasPrefix(strings.ToLower(args[i]), "auth") {
				return i + 1, n
			}
		}
	}
	return 0, 0
}

// secretSetting is where in a CONFIG SET the first secret is; behind it nothing is shown.
func secretSetting(args []string) int {
	for i := 2; i < len(args); i += 2 {
		name := strings.ToLower(args[i])
		for _, end := range []string{"pass", "password", "masterauth", "masteruser", "token"} {
			if strings.HasSuffix(name, end) {
				return i + 1
			}
		}
	}
	return len(args)
}

// SecretBytes is Secret of arguments as they came. MONITOR asks it for every command, so that it
// first tells by the length of the name that nearly all commands have no secrets.
func SecretBytes(args [][]byte) (from, to int) {
	if len(args) == 0 || len(args[0]) > len("migrate") { // none of those with secrets is longer
		return 0, 0
	}
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = string(a[:min(len(a), 32)])
	}
	return Secret(words)
}
