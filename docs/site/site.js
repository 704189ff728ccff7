// A table that is wider than the screen can be scrolled with the keyboard, too. The theme wraps tables when they are shown.
function makeTablesFocusable() {
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    table.tabIndex = 0;
  }
}

makeTablesFocusable();
new MutationObserver(makeTablesFocusable).observe(document.body, { childList: true, subtree: true });
