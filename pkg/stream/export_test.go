package stream

// For tests in package stream_test.
var (
	Classify  = classify
	SendError = sendError
)
