package process

import "syscall"

const (
	sysFstatat      = syscall.SYS_FSTATAT
	sysSchedSetattr = 274
)
