// Package livewatch keeps the caches of informers as new as the API server, and knows how
// new they are.
//
// client-go's reflector retries a broken watch after pauses that grow to a minute, lists
// from the watch cache of any API server, and reports neither that a watch is broken nor
// how far its cache is behind. A leader that takes a Service for deleted because such a
// cache has not seen it yet frees an address that is in use.
//
// So a Source is put between the API server and the reflector. It is a ListerWatcher
// whose watch never ends: it repairs a broken one itself, twice a second, by a list that
// the API server must answer with its newest state ("consistent read": a list that names
// no resourceVersion), and passes on the difference. The same list is made on demand
// (Refresh), at most one a second for each kind: after it the cache holds what the API
// server held when the list began, so that what is absent there is absent.
package livewatch
