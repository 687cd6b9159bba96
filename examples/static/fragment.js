// What stands behind "#" is sent to no server. Take it into the form, and out of the address bar and the history.
function takeToken() {
  if (location.hash) {
    document.getElementById("token").value = location.hash.slice(1);
    history.replaceState(null, "", location.pathname);
  }
}
takeToken();
addEventListener("hashchange", takeToken); // a link that is opened where the page is open already loads nothing
