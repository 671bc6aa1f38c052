"""A page that climbs in the browser; see `pyoip.export_web`."""
