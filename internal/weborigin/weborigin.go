// Package weborigin knows how the origins of web pages are written (RFC 6454,
// section 6.2). It imports nothing of the project.
package weborigin

import "net/url"

// Valid reports whether text is scheme://host[:port] and nothing more.
func Valid(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme != "" && u.Host != "" && u.Scheme+"://"+u.Host == text
}
