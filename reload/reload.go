// Package reload notices that the configuration changed and says what the
// change means.
//
// A Watcher follows one file through symbolic links and directory swaps and
// says "look again" once it has been quiet for a while (watch.go). The kernel's
// part is a notifier: inotify on Linux, kqueue on BSD and macOS, nothing but a
// slow stat elsewhere or where the kernel has no more to give. A Plan says what
// becomes of changed keys (plan.go). Reading and comparing the configuration is
// reload/config's work, applying it the gateway's.
package reload
