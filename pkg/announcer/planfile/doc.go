// Package planfile keeps the last plan that an announcer accepted on its node's disk, so
// that an announcer which starts while no leader is there knows what its node answers for,
// and which plans are older than that.
//
// The file holds the keys of peers: it is readable for its owner only. It is replaced as a
// whole, by a rename, off the path on which plans are carried out; of many changes in a row
// only some are written.
package planfile
