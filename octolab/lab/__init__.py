"""Everything with a face: what is drawn while a run goes on. Needs the extra `lab`; the core never does."""
