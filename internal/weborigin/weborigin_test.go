package weborigin

import "testing"

func TestValid(t *testing.T) {
	for text, want := range map[string]bool{
		"https://game.example": true, "http://localhost:8080": true, "": false, "*": false, "game.example": false,
		"https://game.example/": false, "https://": false, "https://game.example?x": false, "https://a b": false,
	} {
		if Valid(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
