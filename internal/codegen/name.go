package codegen

import (
	"regexp"
	"strings"
	"unicode"
)

var (
	// validConcern and validIdentifier are what concern.Definition and
	// storage.Mapping accept.
	validConcern    = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	validIdentifier = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)
)

// platformPrefix begins the names of the platform's own columns and tables.
const platformPrefix = "rkcy_"

// systemColumns are in every table of PostgreSQL.
var systemColumns = map[string]bool{
	"tableoid": true, "xmin": true, "cmin": true, "xmax": true, "cmax": true, "ctid": true,
}

// snakeCase turns a message name into the default name of its Concern:
// HTTPServer is http_server, Vault2Go is vault2_go.
func snakeCase(name string) string {
	var out strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && runes[i-1] != '_' {
			startsWord := !unicode.IsUpper(runes[i-1]) ||
				i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if startsWord {
				out.WriteByte('_')
			}
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}

// plural makes the plural of a name by the rules that most words follow.
func plural(name string) string {
	lower := strings.ToLower(name)
	for _, ending := range []string{"s", "x", "z", "ch", "sh"} {
		if strings.HasSuffix(lower, ending) {
			return name + "es"
		}
	}
	if n := len(lower); n > 1 && lower[n-1] == 'y' && !strings.ContainsRune("aeiou", rune(lower[n-2])) {
		return name[:n-1] + "ies"
	}
	return name + "s"
}

// initial returns the first letter of a name in lower case.
func initial(name string) string { return strings.ToLower(name[:1]) }
