// Before anything is drawn: the theme that the reader has chosen.
{
  const kept = localStorage.getItem("tidemill:theme");
  if (kept) document.documentElement.dataset.theme = kept;
}
