"""Everything with a face: what is drawn while a run goes on. Needs the extra `lab`; nothing in the core imports this."""
