import './style.css'

document.querySelector('main').textContent = `This is ${location.pathname}, made by a script`
