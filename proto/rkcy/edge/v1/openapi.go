package edgev1

import _ "embed" // for the document

// ReadOpenAPI describes the HTTP mapping of ReadService.
//
//go:embed read.openapi.json
var ReadOpenAPI []byte
