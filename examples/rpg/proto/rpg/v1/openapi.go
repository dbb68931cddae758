package rpgv1

import _ "embed" // for the document

// OpenAPI describes the HTTP mapping of RpgService.
//
//go:embed edge.openapi.json
var OpenAPI []byte
