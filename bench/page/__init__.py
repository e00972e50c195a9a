"""What a visitor meets in the browser, measured: how long the page takes, how heavy it is, how smoothly it moves."""
