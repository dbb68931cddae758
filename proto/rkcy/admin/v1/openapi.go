package adminv1

import _ "embed" // for the document

// OpenAPI describes the HTTP mapping of the services in this package.
//
//go:embed admin.openapi.json
var OpenAPI []byte
