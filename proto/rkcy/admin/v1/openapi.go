package adminv1

import _ "embed" // for the documents

// OpenAPI describes the HTTP mapping of TransactionService.
//
//go:embed admin.openapi.json
var OpenAPI []byte

// PlatformOpenAPI describes the HTTP mapping of PlatformService.
//
//go:embed platform.openapi.json
var PlatformOpenAPI []byte
