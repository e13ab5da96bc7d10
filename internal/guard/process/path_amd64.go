package process

import "syscall"

const (
	sysFstatat      = syscall.SYS_NEWFSTATAT
	sysSchedSetattr = 314
)
