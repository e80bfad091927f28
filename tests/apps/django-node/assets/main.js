document.title = "Hello from an asset";
