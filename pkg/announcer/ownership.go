package announcer

import "baremetal.cloud/ccm/pkg/announcer/announcement"

// owns says whether node is to answer for a. It is the whole ownership rule: the first
// candidate answers, and the others do when a newer plan puts them first.
func owns(node string, a announcement.Announcement) bool {
	return len(a.Candidates) > 0 && a.Candidates[0] == node
}

// lost says for people why a claim ended: what the plan now says of its address.
func lost(a announcement.Announcement, planned bool) string {
	switch {
	case !planned:
		return "withdrawn"
	case len(a.Candidates) == 0:
		return "given to nobody"
	default:
		return "given to " + a.Candidates[0]
	}
}
