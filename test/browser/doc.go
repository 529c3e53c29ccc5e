// Package browser tests the dashboard as a person uses it: a real Chromium without a
// screen, against a real gateway between real servers.
package browser
