package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// clockTick is the unit of times in /proc: USER_HZ is 100 on every Linux that
// redis-server and Go both run on.
const clockTick = time.Second / 100

var errProcStat = errors.New("bench: unexpected format of /proc/<pid>/stat")

// processCPU returns the CPU time, user and system, that all threads of a process
// have used, those that have ended included.
func processCPU(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("bench: cpu of pid %d: %w", pid, err)
	}
	return parseProcStat(stat)
}

// parseProcStat returns utime + stime, fields 14 and 15 of proc(5). Field 2 is the
// program's name in brackets, and may itself hold spaces and brackets.
func parseProcStat(stat []byte) (time.Duration, error) {
	const fieldAfterName, utimeField, stimeField = 3, 14, 15
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= stimeField-fieldAfterName {
		return 0, errProcStat
	}
	utime, err1 := strconv.ParseInt(string(fields[utimeField-fieldAfterName]), 10, 64)
	stime, err2 := strconv.ParseInt(string(fields[stimeField-fieldAfterName]), 10, 64)
	if err1 != nil || err2 != nil {
		return 0, errProcStat
	}
	return time.Duration(utime+stime) * clockTick, nil
}
