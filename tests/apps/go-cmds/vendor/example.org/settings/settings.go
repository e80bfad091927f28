// Package settings reads what a program is told by its environment.
package settings

import "os"

// Get gives the value of a variable, or what is usual.
func Get(name, usual string) string {
	if value, ok := os.LookupEnv(name); ok {
		return value
	}
	return usual
}
