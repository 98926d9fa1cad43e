// Package prose finds sentences that are hard to read: long ones, those with several relative
// clauses, and those with an expression for which plain English has a simpler one. hack/prose
// prints them for the documents that administrators read.
package prose
