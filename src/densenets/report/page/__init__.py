"""The report as one page that opens in a browser, with nothing outside of it."""
