// The form that asks for the token: leads back to where the link pointed, and says when the token was wrong.
const form = document.getElementById("form");
form.action = `login${location.hash}`;
if (new URLSearchParams(location.search).has("refused")) {
  const wrong = document.getElementById("wrong");
  wrong.hidden = false;
  document.getElementById("token").setAttribute("aria-invalid", "true");
}
