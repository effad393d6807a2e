"use strict";
(function () {
  // Kubeflow shows the report in a frame that has no address of its own: a jump within the page would leave it.
  if (location.protocol === "about:") {
    for (const jump of document.querySelectorAll('a[href^="#"]')) {
      jump.addEventListener("click", (event) => {
        event.preventDefault();
        document.querySelector(jump.getAttribute("href")).scrollIntoView();
      });
    }
  }

  // Charts: read the value under the pointer, or walk along the curve with the arrow keys.
  for (const chart of document.querySelectorAll("svg.chart")) {
    const points = JSON.parse(chart.dataset.points);
    const dot = chart.querySelector(".dot");
    const reading = chart.parentElement.querySelector(".reading");
    let current = points.length - 1;
    const show = (index) => {
      current = Math.max(0, Math.min(points.length - 1, index));
      const [x, y, step, value] = points[current];
      dot.setAttribute("cx", x);
      dot.setAttribute("cy", y);
      dot.style.visibility = "visible";
      reading.textContent = "step " + step + ": " + value;
    };
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
      let best = 0;
      points.forEach((point, index) => {
        if (Math.abs(point[0] - x) < Math.abs(points[best][0] - x)) best = index;
      });
      show(best);
    });
    chart.addEventListener("pointerleave", () => {
      dot.style.visibility = "hidden";
      reading.textContent = "";
    });
    chart.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, Home: -points.length, End: points.length }[event.key];
      if (move) {
        event.preventDefault();
        show(current + move);
      }
    });
  }

  // Samples: play those on the screen; nothing moves for people who asked for that, until they press play.
  const videos = Array.from(document.querySelectorAll(".pair video"));
  const button = document.getElementById("play");
  if (!videos.length || !button) return;
  let playing = !window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const visible = new Set();
  const update = () => {
    button.textContent = playing ? "Pause all samples" : "Play all samples";
    for (const video of videos) {
      if (playing && visible.has(video)) video.play().catch(() => {});
      else video.pause();
    }
  };
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) visible.add(entry.target);
      else visible.delete(entry.target);
    }
    update();
  });
  videos.forEach((video) => observer.observe(video));
  button.hidden = false;
  button.addEventListener("click", () => {
    playing = !playing;
    update();
  });
  update();
})();
