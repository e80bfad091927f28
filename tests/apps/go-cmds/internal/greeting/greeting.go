// Package greeting is what the programs share.
package greeting

// Text greets.
const Text = "Hello from one of several"
