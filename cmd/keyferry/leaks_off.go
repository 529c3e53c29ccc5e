//go:build !failpoints

package main

func tellLeaks() {}
