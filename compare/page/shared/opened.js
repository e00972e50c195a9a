// Read after a tab's script that fills what it shows when it is first seen: tells the server so, once.
new IntersectionObserver((entries, observer) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  observer.disconnect();
  trigger("opened");
}).observe(element);
