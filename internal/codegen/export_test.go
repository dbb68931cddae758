package codegen

// Quote is for tests.
var Quote = quote
