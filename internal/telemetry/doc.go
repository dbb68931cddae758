// Package telemetry lists every metric of the platform and makes instruments of
// the list, so that what is documented is what is measured. It knows the
// OpenTelemetry API only; internal/telemetry/provider has the SDK.
package telemetry
