//go:build tools

// Names the program, so that `go mod tidy' keeps it.
package tools

import _ "github.com/fullstorydev/grpcurl/cmd/grpcurl"
