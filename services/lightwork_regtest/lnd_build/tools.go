//go:build tools

// Package tools pins the two programs that lightwork-regtest builds.
package tools

import (
	_ "github.com/lightningnetwork/lnd/cmd/lncli"
	_ "github.com/lightningnetwork/lnd/cmd/lnd"
)
